"""The formats in which a trained model can be handed to other programs: `--export=savedmodel,tflite,onnx`."""

from trainer.core.exit_codes import UsageError
from trainer.core.run_dir import ONNX, SAVED_MODEL, TFLITE

PLACES = {"savedmodel": SAVED_MODEL, "tflite": TFLITE, "onnx": ONNX}  # Where each lies in the run directory.


def parse(text: str) -> tuple[str, ...]:
    """The formats that a value of --export names, each once.

    Raises:
      UsageError: one of them is none of ours, or a value names none.
    """
    formats = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in formats or (text,) * bool(text):
        if name not in PLACES:
            raise UsageError(
                f"--export={text}: {name!r} is none of: {', '.join(PLACES)}; give one, or several by commas"
            )
    return formats
