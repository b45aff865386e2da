"""What people read: reports, figures and lines.

- report: one report model, written as Markdown and as one self-contained HTML file
- plots: drawings in it
- numbers: numbers with their unit, and as many digits as mean something
- result_lines: results as lines for a terminal
"""
