"""A line between two machines: one address that stands for another, as slow as a test wants, or silent for a while."""

import queue
import socket
import threading
import time

# Read at once, and pieces of one direction that are under way.
PIECE, UNDER_WAY = 64 << 10, 256


# How often is looked whether the other end is there again, or this one is closed.
LOOK = 0.02


class Line:
    """Every byte arrives, in order. While the line is held nothing does, and no connection breaks: what a cut looks like.

    Where nobody listens at the other end, nobody does here."""

    def __init__(self, port, far):
        self.port, self.far, self.delay = port, far, 0.0
        self.open, self.refused, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.open.set()
        start(self.listen)

    def hold(self):
        self.open.clear()

    def release(self):
        self.open.set()

    def close(self):
        self.closed.set()
        self.release()

    def listen(self):
        while not self.closed.is_set():
            if not self.is_there():
                self.closed.wait(LOOK)
                continue
            self.refused.clear()
            with socket.create_server(("127.0.0.1", self.port)) as listener:
                listener.settimeout(LOOK)
                while not self.closed.is_set() and not self.refused.is_set():
                    try:
                        near, _ = listener.accept()
                    except TimeoutError:
                        continue
                    near.settimeout(None)
                    start(self.connect, near)

    def is_there(self):
        try:
            socket.create_connection(("127.0.0.1", self.far)).close()
        except OSError:
            return False
        return True

    def connect(self, near):
        self.open.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.far))
        except OSError:
            self.refused.set()
            near.close()
            return
        for one, other in [(near, far), (far, near)]:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pieces = queue.Queue(UNDER_WAY)
            start(self.take_in, one, pieces)
            start(self.give_out, pieces, one, other)

    def take_in(self, source, pieces):
        """Notes for each piece when it is to arrive; an empty one is the end."""
        while True:
            try:
                piece = source.recv(PIECE)
            except OSError:
                piece = b""
            pieces.put((time.monotonic() + self.delay, piece))
            if not piece:
                return

    def give_out(self, pieces, source, target):
        last = 0.0
        while True:
            at, piece = pieces.get()
            last = max(last, at)
            late = threading.Event()
            late.wait(max(0.0, last - time.monotonic()))
            self.open.wait()
            try:
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(piece)
            except OSError:
                # An end of one way is the end of both, and wakes who reads.
                for end in [source, target]:
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
                return


def start(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()
