"""How processes that train one network exchange gradients."""
