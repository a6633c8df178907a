# Counts visits: all of them in the database, those of this minute in the cache.
import http.server
import signal
import socket
import sys
import time

import psycopg2
import redis

database = psycopg2.connect(host="db", user="postgres")
database.autocommit = True
database.cursor().execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now())")
cache = redis.Redis(host="cache")


class Visit(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        rows = database.cursor()
        rows.execute("INSERT INTO visits DEFAULT VALUES")
        rows.execute("SELECT count(*) FROM visits")
        minute = cache.incr(f"visits {int(time.time()) // 60}")
        text = f"visits: {rows.fetchone()[0]}, in this minute: {minute}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4 with it


signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # PID 1 has no default for it
Server(("", 8000), Visit).serve_forever()
