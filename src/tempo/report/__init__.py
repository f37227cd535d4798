"""From records to tables, figures and a page.

It reads files of finished runs; it does not import torch or start runs.
"""
