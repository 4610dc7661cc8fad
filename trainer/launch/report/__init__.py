"""What a person sees of a run: its state, its verdict, its logs."""
