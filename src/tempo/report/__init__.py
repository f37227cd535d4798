"""Records in; tables, figures and one HTML page out; never imports torch."""
