"""From records to tables, figures, report.md and one HTML page.

In this order: load_runs, grouping, statistics, tables and figures, sections, then markdown and html_page;
write_report calls them. It does not import torch or start runs. A live page would be a further renderer of
`sections_of`, beside html_page.
"""
