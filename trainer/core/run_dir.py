"""What a run directory holds, by name: the training program writes it, agent, mirror and launcher look for it."""

TRAIN, VALIDATION = "train", "validation"  # Folders of TensorBoard event files.
CHECKPOINTS = "checkpoints"
ATTEMPTS = "attempts.jsonl"
MODEL = "model.keras"
RESULT = "result.json"  # The last to be there: with it the run has ended.
