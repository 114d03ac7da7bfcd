"""A function as the platform's users write them, with each verb of its library that a function needs.

It is run as a program: the payload is read from the file that the first argument names.
"""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from worker.notebook import S3, File, JobMessage, Util, com

BLOCK_BYTES = 8 * 1024 * 1024
INFO = JobMessage.JobMessageType.INFO

payload = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
request = com.Nuclio.Request.Request(None, SimpleNamespace(body=json.dumps(payload)))
request.job_init()
request.log("Sample message", INFO)
for file in request.Files:
    metadata = File.get_metadata(file.id, True)  # noqa: FBT003 - as the platform's users call it
    if metadata is None:
        request.log("File " + file.id + " has no metadata", INFO)
    else:
        request.log(Util.format_json_item(metadata), INFO)
    stream = S3.File.get_stream(request.Storage, file)
    if stream is not None:
        hashers = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")}
        while block := stream.read(BLOCK_BYTES):
            for hasher in hashers.values():
                hasher.update(block)
        for name, hasher in hashers.items():
            request.log(f"File hash calculated: {name.upper():<6} - {hasher.hexdigest()}", INFO, file.id)
        for name, hasher in hashers.items():
            File.set_hash(file.id, name, hasher.hexdigest())
request.job_end(True)  # noqa: FBT003 - as above
