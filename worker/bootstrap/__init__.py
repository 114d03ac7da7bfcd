"""The one place that knows every class: it puts a worker together from the settings."""
