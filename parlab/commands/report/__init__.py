"""``report``: one self-contained HTML page from any set of predictions or a sweep."""

from parlab.commands.report.command import main
from parlab.commands.report.page import write_report

__all__ = ["main", "write_report"]
