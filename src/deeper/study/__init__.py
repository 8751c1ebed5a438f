"""From run directories to tables, figures and a page; nothing here trains."""
