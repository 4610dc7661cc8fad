"""What is shown while it trains: TensorBoard's files and the progress bar."""
