"""Copy what stands on standard input into the bucket, beside the run folder: keep_log.py gs://BUCKET/FOLDER."""

import socket
import sys
import time

from buckets import folder

if __name__ == "__main__":
    log = f"{socket.gethostname()}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.log"
    folder(f"{sys.argv[1]}.hosts").create(log, sys.stdin.buffer.read()).finish()
