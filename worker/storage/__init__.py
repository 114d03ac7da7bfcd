"""S3 to slots: the pinned object version, its ranges, and the reader with its retries."""
