"""What a terminal or a notebook shows: tables, bars and their widths."""
