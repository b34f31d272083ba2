"""The report: `REPORT.md`, one self-contained HTML page, and the verdicts that `repro verify` checks."""
