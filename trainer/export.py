"""`python -m trainer.export RUN [flags] [-- training flags]`: a finished run's model in formats of other programs.

RUN is a run directory, or its address in an output: gs://bucket/path/run, s3://bucket/path/run. What is written is
loaded again and compared with the model on a hundred examples. These are loaded, and a model that Keras does not load
from its file alone is built, with the flags that result.json says; what else says where data are now is given behind
`--`.
"""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.core import experiment_flags, export_formats, result_flags, settings
from trainer.core.config import Config
from trainer.core.exit_codes import ExitCode, OutputError, TrainerError, UsageError
from trainer.core.process import make_outputs_usable, outlive_outputs
from trainer.core.run_dir import MODEL, RESULT, WEIGHTS
from trainer.core.safe_text import redacted
from trainer.core.settings import setting
from trainer.training import cli
from trainer.training.hardware import tf_logging
from trainer.training.model.experiment import Experiment, load

PROGRAM = "python -m trainer.export RUN"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """The flags beside the run."""

    export: str = setting(
        "savedmodel", "formats, by commas: savedmodel, tflite, onnx (this one with the current TensorFlow)"
    )
    to: str = setting(
        "", "folder for them (default: the run directory; of a run in a bucket, one of the run's name here)"
    )


def main(argv: Sequence[str]) -> int:
    """Exports a run's model; returns the exit code."""
    own, trainer_argv = settings.split(argv)
    run, own = (own[0], own[1:]) if own and not own[0].startswith("-") else ("", own)
    try:
        flags = settings.parse(ExportFlags, own, program=PROGRAM)
        formats = export_formats.parse(flags.export)
        if not run or not formats:
            raise UsageError(
                f"{PROGRAM} takes a run directory or its address, and at least one format; such as "
                "`python -m trainer.export logs/fit/20261130-120000 --export=savedmodel,tflite`"
            )
        if "://" in flags.to:
            raise UsageError(f"--to={redacted(flags.to)} is a folder of this machine; copy what is written there on")
        with tempfile.TemporaryDirectory() as folder:
            source = _fetched(run, Path(folder)) if "://" in run else Path(run)
            to = Path(flags.to or (Path(run.rstrip("/")).name if "://" in run else run))
            _export(run, source, to, formats, trainer_argv)
    except TrainerError as error:
        return error.tell()
    return ExitCode.DONE


def _fetched(address: str, folder: Path) -> Path:
    """Brings what is needed of a run in a bucket into a folder."""
    from trainer.output.mirror.whole_files import fetch_file
    from trainer.output.stores.errors import AddressError, NoBucketError, RefusedError, StorageError
    from trainer.output.stores.opening import open_store

    store = open_store(address.rstrip("/"))
    try:
        for key in (RESULT, MODEL, WEIGHTS):
            fetch_file(store, key, folder)
    except (AddressError, NoBucketError, RefusedError) as error:
        raise UsageError(
            f"the run in {redacted(address)} cannot be read: {error}; check its address, and the credentials and "
            "the endpoint in the environment"
        ) from None
    except StorageError as error:
        raise OutputError(f"the run in {redacted(address)} cannot be read: {error}") from None
    return folder


def _export(run: str, source: Path, to: Path, formats: Sequence[str], trainer_argv: Sequence[str]) -> None:
    argv = [*_flags_of_run(run, source), *trainer_argv]
    config, _ = experiment_flags.parse(argv)
    tf_logging.set_up_logging(config.verbosity)
    experiment = load(config.experiment)
    config = experiment_flags.parse_with(experiment.flags, argv)

    from trainer.training.results import exporting  # With TensorFlow, which takes seconds to import.

    inputs = _examples(config, experiment, exporting.EXAMPLES)
    model = _model(run, source, config, experiment, inputs)
    try:
        to.mkdir(parents=True, exist_ok=True)
        written = exporting.write(model, inputs, formats, to, verbosity=config.verbosity)
    except exporting.ExportError as error:
        raise UsageError(f"--export={','.join(formats)}: {error}; leave that format out") from None
    except OSError as error:
        raise OutputError(
            f"{to} cannot be written to ({error.strerror or error}); make room, or name another with --to"
        ) from None
    for name, place in written.items():
        print(f"exported as {name} to {to / place}; it gives what the model gives")


def _flags_of_run(run: str, source: Path) -> list[str]:
    """The flags of a run, as far as its model follows from them, as result.json says them."""
    try:
        return result_flags.arguments((source / RESULT).read_bytes())
    except OSError:
        raise UsageError(f"{redacted(run)} holds no {RESULT}: name the folder of a run that has ended") from None
    except ValueError as error:
        raise UsageError(f"{RESULT} in {redacted(run)} is damaged: {error}; name the folder of another run") from None


def _examples(config: Config, experiment: Experiment, count: int) -> Any:
    from trainer.training.assembly import split_of
    from trainer.training.explaining import explained
    from trainer.training.model.samples import first_inputs

    with explained(f"load_data of --experiment={config.experiment}"):
        train, validation = experiment.load_data(config)
    name, loaded = ("training", train) if validation is None else ("validation", validation)
    return first_inputs(split_of(loaded, name, config), experiment.preprocess, config.seed, count)


def _model(run: str, source: Path, config: Config, experiment: Experiment, inputs: Any) -> Any:
    """The trained model: as its file describes it, or else built by its experiment, with the weights of the file."""
    import keras

    from trainer.training.explaining import explained
    from trainer.training.model.compilation import set_precision
    from trainer.training.model.first_look import call
    from trainer.training.state import trained_model

    # The file tells what was trained, whatever has become of build_model since.
    with contextlib.suppress(Exception):
        return keras.models.load_model(source / MODEL, compile=False)
    # It is not there, or Keras does not make its layers without their code: Lambda, a class that is not registered.
    name = next((name for name in (MODEL, WEIGHTS) if (source / name).exists()), None)
    if name is None:
        raise UsageError(
            f"{redacted(run)} holds neither {MODEL} nor {WEIGHTS}: name the folder of a run that has ended"
        )
    set_precision(config)
    with explained(f"build_model of --experiment={config.experiment}"):
        model = experiment.build_model(config)
        call(model, inputs, training=False)
    trained_model.of_file(f"{redacted(run)}/{name}", name, (source / name).read_bytes(), model)
    return model


if __name__ == "__main__":
    make_outputs_usable()
    outlive_outputs()
    cli.end(main(sys.argv[1:]))
