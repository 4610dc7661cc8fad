"""Where in the repository the files are that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"

TESTS = ROOT / "tests"
GOLDEN = TESTS / "golden" / "chart.yaml"  # All that the chart renders by default: four workers of one GPU each.
RECORDED = TESTS / "recorded"  # What clusters told while runs went on, a run a file: `tools/recorded_runs.py`.
STRICT = TESTS / "support" / "strict"  # On the path of what tests start: deprecated calls of our own code fail there.
SCHEMAS = TESTS / "schemas"  # JSON schemas of Kubernetes' kinds, a version a file: `tools/kubernetes_schemas.py`.
