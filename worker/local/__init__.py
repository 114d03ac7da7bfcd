"""A whole platform on this machine: jobs API, S3 server and broker, for the demo, the tests and notebooks."""
