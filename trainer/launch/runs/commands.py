"""`list --output` and `show`: each returns its exit code. No cluster is asked, and nothing is written."""

import sys
from collections.abc import Mapping

import rich.console

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import one_line, printable, redacted
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.report.lines import print_json
from trainer.launch.report.verdict import duration, ending_lines
from trainer.launch.runs import event_scalars, places, table
from trainer.launch.runs.curve import drawn
from trainer.launch.runs.event_scalars import Curve
from trainer.launch.runs.flags import ListFlags, ShowFlags
from trainer.launch.runs.places import RunFolder
from trainer.launch.runs.summary import BROKEN, RunSummary, summaries, summary
from trainer.launch.runs.trials import flags_of_trials
from trainer.output.stores.errors import StorageError

_WIDEST_CURVE = 100  # Characters.


def list_stored(flags: ListFlags) -> int:
    """Lists the runs of a place, a row each.

    Raises:
      UsageError: a metric or a column that none of them has.
      LaunchError: the place cannot be read.
    """
    place = places.open_place(flags.output)
    runs = summaries(place)
    sorted_by = flags.sort.removeprefix("-")
    wanted = flags.metric or (sorted_by if any(sorted_by in run.metrics for run in runs) else "")
    metric = table.chosen_metric((run.metrics for run in runs), wanted)
    runs = table.in_order(runs, flags.sort, metric)
    if flags.json:
        for run in runs:
            print_json(run.facts())
    elif runs:
        table.print_runs(runs, metric, terminal=sys.stdout.isatty())
    else:
        print(f"no runs in {printable(redacted(place.url))}")
    return LaunchCode.DONE


def show(flags: ShowFlags) -> int:
    """Shows one run: what it was, how it went, its curves.

    Raises:
      UsageError: no run is named, or a metric that it does not have.
      LaunchError: there is no such run, or it cannot be read.
    """
    if not flags.run:
        raise UsageError("show needs a run: `show gs://bucket/path/RUN`, `show FOLDER`, or `show RUN --output=…`")
    address, name = (flags.output, flags.run) if flags.output else places.split_address(flags.run)
    if "/" in name.strip("/") or name.strip("/") in ("", ".", ".."):
        raise UsageError(f"--run={name} is no run's name; give it without --output where it is an address")
    place, name = places.open_place(address), name.strip("/")
    run = RunFolder(place, name)
    try:
        found = summary(run, name, flags_of_trials(place, [name]).get(name))
        if found is None:
            raise places.no_such_run(place, name)
        if found.state == BROKEN:
            raise LaunchError(f"the run in {redacted(run.url)} cannot be read: {found.problem}")
        curves = event_scalars.curves(run)
    except places.NoFolderError as error:
        raise LaunchError(f"there is no run {name}: {error}", LaunchCode.NOT_STARTED) from None
    except StorageError as error:
        raise LaunchError(f"the run in {redacted(run.url)} cannot be read: {error}") from None
    measured = {**dict.fromkeys(curves), **dict.fromkeys(found.metrics)}
    if flags.metric and flags.metric not in measured:
        raise UsageError(f"--metric={flags.metric} is not measured by {name}; it has: {table.listed(measured)}")
    if flags.json:
        print_json({**found.facts(), "attempts": list(found.attempts), "curves": curves})
    else:
        _print_run(found, curves, flags.metric)
    return LaunchCode.DONE


def _print_run(run: RunSummary, curves: Mapping[str, Curve], metric: str) -> None:
    console = rich.console.Console()
    metric = metric or table.chosen_metric([run.metrics])
    value = run.metrics.get(metric)
    reached = f", {metric} {table.number(value)}" if value is not None else ""
    written = f" {table.when(run.written)}" if run.written else ""
    trained = f"{run.epochs} epoch(s), " if run.epochs or "mode" not in run.flags else ""
    goodput = "" if run.goodput is None else f", goodput {run.goodput:.0%}"
    lines = [
        f"{one_line(run.name, 200)}: {run.state}{written}{reached}",
        f"  {run.workers or '?'} worker(s), {trained}{duration(run.seconds)}, {run.restarts} restart(s){goodput}",
    ]
    if run.flags:
        lines.append(f"  {table.flags_text(run.flags)}")
    said = {"end": run.end, "best": run.best, "outputs": run.outputs, "epochs": run.epochs}
    lines += [f"  {line}" for line in ending_lines(said)]
    for attempt in run.attempts:
        reason = one_line(str(attempt.get("reason", "")), 200)
        step = one_line(str(attempt.get("step_to", "?")), 20)
        lines.append(f"  attempt {attempt['attempt']} ended at step {step}: {reason}")
    if sys.stdout.isatty():
        loss = "val_loss" if curves.get("val_loss") else "loss"
        width = min(console.width, _WIDEST_CURVE)
        for name in dict.fromkeys((loss, metric)):
            lines += [f"  {one_line(name, 40)}", *drawn(curves.get(name, {}), width=width)] if name in curves else []
    else:
        lines += _by_epoch(curves)
    for line in lines:
        print(printable(line))


def _by_epoch(curves: Mapping[str, Curve]) -> list[str]:
    """A line an epoch, for where nothing can be drawn."""
    epochs = sorted({epoch for points in curves.values() for epoch in points})
    return [
        f"  epoch {epoch}: "
        + "  ".join(
            f"{one_line(name, 40)} {table.number(points[epoch])}" for name, points in curves.items() if epoch in points
        )
        for epoch in epochs
    ]
