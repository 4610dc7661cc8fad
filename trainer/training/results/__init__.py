"""What a run leaves behind at its end: result.json, report.html, exports, predictions."""
