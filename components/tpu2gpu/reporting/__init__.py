"""One report model, written as Markdown and as one self-contained HTML file."""
