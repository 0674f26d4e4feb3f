"""A dream behind a web page: the model runs here, the browser sends keys and shows pictures."""
