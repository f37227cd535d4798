"""From records to tables, figures, report.md and one HTML page.

In this order: load_runs, grouping, statistics, tables and figures, sections, then markdown and html_page;
write_report calls them. chart_data collects the values of the page's charts, which the scripts in `page/`
draw with the libraries in `chart_library/`. The room does not import torch or start runs.
"""
