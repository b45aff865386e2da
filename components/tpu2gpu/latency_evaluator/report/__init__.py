"""The written evaluation: JSON files, the report that people read, and the lines for a terminal.

- write: all files of the output folder
- report_blocks: the report's tables, figures and facts
- scenario_blocks: those about load
- summary: the verdict on a terminal
- caveats: warnings
"""
