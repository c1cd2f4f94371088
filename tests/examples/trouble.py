#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Two networks of their own with a bad line between them: it loses packets, delays each, and
has many overtake others.

    trouble.py >FILE

FILE gets one line, the two networks as nsenter(1) takes them; the first has the address
10.9.0.1, the second 10.9.0.2.  They last until SIGTERM, at which a second line says how
many packets came, were lost, and were overtaken.  If the system gives no networks it says
why, and exits with 77.
"""
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 0x0001, 0x1000

LOST = 0.02  # of all packets
LATE = 0.1   # so many more are delayed for much longer


def make_network(address):
    """A network with a device, the only way out; this process is in it then."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), 'unshare')
    device = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack('16sH14x', b'line', IFF_TUN | IFF_NO_PI))
    for command in ('link set lo up', f'addr add {address}/24 dev line', 'link set line up'):
        subprocess.run(['ip', *command.split()], check=True)
    return device, os.open('/proc/self/ns/net', os.O_RDONLY)


class Line:
    """What is under way, in both directions."""

    def __init__(self, devices):
        self.devices, self.other = devices, {devices[0]: devices[1], devices[1]: devices[0]}
        self.chance, self.under_way = random.Random(1), []
        self.taken, self.last = 0, {device: 0 for device in devices}
        self.came = self.lost = self.overtaken = 0

    def take(self, device):
        """One packet; of those of IPv4 some are lost, the others come later."""
        packet = os.read(device, 65536)
        if packet[0] >> 4 != 4:
            return
        self.taken += 1
        if self.chance.random() < LOST:
            self.lost += 1
            return
        delay = self.chance.uniform(0.001, 0.003)
        if self.chance.random() < LATE:
            delay += self.chance.uniform(0.002, 0.02)
        due = time.monotonic() + delay
        heapq.heappush(self.under_way, (due, self.taken, self.other[device], packet))

    def give(self):
        """What is due; seconds until the next is."""
        while self.under_way and self.under_way[0][0] <= time.monotonic():
            _, number, device, packet = heapq.heappop(self.under_way)
            self.overtaken += number < self.last[device]
            self.last[device] = max(number, self.last[device])
            self.came += 1
            os.write(device, packet)
        return max(0, self.under_way[0][0] - time.monotonic()) if self.under_way else None

    def run(self):
        """Until the process is ended."""
        while True:
            ready, _, _ = select.select(self.devices, [], [], self.give())
            for device in ready:
                self.take(device)


def main():
    try:
        networks = [make_network('10.9.0.1'), make_network('10.9.0.2')]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f'skipped: no networks of their own: {error}')
        return 77
    line = Line([device for device, _ in networks])

    def end(*_):
        print(line.came, line.lost, line.overtaken, flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    print(*(f'/proc/{os.getpid()}/fd/{network}' for _, network in networks), flush=True)
    line.run()
    return 0


if __name__ == '__main__':
    sys.exit(main())
