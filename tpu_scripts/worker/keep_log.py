"""Copy what stands on standard input into the bucket, beside the run folder: keep_log.py gs://BUCKET/FOLDER."""

import socket
import sys
import time

from buckets import Folder

if __name__ == "__main__":
    log = f"{socket.gethostname()}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.log"
    Folder(f"{sys.argv[1]}.hosts").write(log, sys.stdin.buffer.read())
