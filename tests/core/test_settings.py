import dataclasses
import json

import pytest

from trainer.core import settings
from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.core.experiment_flags import parse
from trainer.launch.flags import SubmitFlags


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no_such_flag=1"], ["no_such_flag", "--help"]),
        (["--epochs=two"], ["epochs", "two"]),
        (["--epochs=0"], ["--epochs=0", "at least 1"]),
        (["--global_batch_size=0"], ["--global_batch_size=0", "at least 1"]),
        (["--global_batch_size=-128"], ["--global_batch_size=-128", "at least 1"]),
        (["--learning_rate=0"], ["--learning_rate=0.0", "greater than 0"]),
        (["--learning_rate=nan"], ["--learning_rate=nan", "finite"]),
        (["--learning_rate=inf"], ["--learning_rate=inf", "finite"]),
        (["--dropout=1"], ["--dropout=1.0", "less than 1"]),
        (["--dropout=-0.1"], ["--dropout=-0.1", "at least 0"]),
        (["--checkpoint_every=0"], ["--checkpoint_every=0.0", "greater than 0"]),
        (["--keep=0"], ["--keep=0", "at least 1"]),
        (["--seed=-1"], ["--seed=-1", "at least 0"]),
        (["--precision=float16"], ["--precision=float16", "float32, bfloat16"]),
        (["--communication=gloo"], ["--communication=gloo", "auto, ring, nccl"]),
        (["--momentum=0.9"], ["--momentum=0.9", "--optimizer=sgd", "--optimizer=adam"]),
        (["epochs=3"], ["epochs=3", "--flag=value"]),
    ],
)
def test_what_cannot_be_used_is_refused_and_the_error_says_what_can(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        parse(arguments)[0]
    for word in words:
        assert word in str(refused.value)


def test_a_config_as_arguments_is_that_config_again() -> None:
    config = parse(["--epochs=2", "--jit_compile", "--dropout=0.5", "--run_dir=/a b"])[0]
    assert settings.arguments(config) == ["--run_dir=/a b", "--epochs=2", "--jit_compile=true", "--dropout=0.5"]
    assert vars(parse(settings.arguments(config))[0]) == vars(config)
    assert settings.arguments(Config()) == []


def test_a_flag_that_may_be_repeated_is_repeated() -> None:
    flags = SubmitFlags(values=("a.yaml", "b c.yaml"), set=("x={1,2}",))
    assert settings.arguments(flags) == ["--values=a.yaml", "--values=b c.yaml", "--set=x={1,2}"]
    assert settings.parse(SubmitFlags, settings.arguments(flags), program="launch") == flags


def test_the_schema_has_a_key_with_type_and_bounds_for_every_flag() -> None:
    schema = settings.schema(Config)
    assert list(schema["properties"]) == [field.name for field in dataclasses.fields(Config)]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["momentum"] == {
        "description": "of --optimizer=sgd: share of the last update that is kept",
        "type": "number",
        "default": 0.0,
        "minimum": 0.0,
        "exclusiveMaximum": 1.0,
    }
    assert schema["properties"]["jit_compile"]["enum"] == ["auto", "true", "false", True, False]
    assert schema["properties"]["optimizer"]["enum"] == ["adam", "sgd"]
    json.dumps(schema)


def test_help_lists_every_flag_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in [*(field.name for field in dataclasses.fields(Config)), "hidden_units", "dropout"]:
        assert f"--{name}" in shown


def test_flags_without_a_default_and_flags_that_are_repeated() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Options:
        count: int | None = settings.setting(None, "how many", minimum=1, kind=int)
        name: tuple[str, ...] = settings.setting((), "may be repeated")

    assert settings.parse(Options, [], program="some") == Options(count=None, name=())
    assert settings.parse(Options, ["--count=2", "--name=a", "--name=b"], program="some") == Options(
        count=2, name=("a", "b")
    )
    with pytest.raises(UsageError, match="--count=0 must be at least 1; leave it out for the default"):
        settings.parse(Options, ["--count=0"], program="some")
    assert "| `--count` |  | how many |" in settings.markdown(Options)
    count, name = settings.schema(Options)["properties"].values()
    assert (count["type"], count["minimum"], count["default"]) == (["integer", "null"], 1, None)
    assert (name["type"], name["items"], name["default"]) == ("array", {"type": "string"}, [])


@pytest.mark.parametrize(
    ("argv", "on"),
    [
        (["--local"], True),
        (["-local"], True),
        (["--local=True"], True),
        (["--local=1"], True),
        (["--name", "x", "--workers=2", "--local"], True),
        (["--nolocal"], False),
        (["--local=false"], False),
        (["--locale"], False),
        ([], False),
    ],
)
def test_a_switch_is_known_among_other_flags(argv: list[str], on: bool) -> None:
    assert settings.switched_on("local", argv, program="some") is on
