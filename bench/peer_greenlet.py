# SPDX-License-Identifier: MIT
"""The nanoseconds that so many hand-offs take between two greenlets."""
import sys
import time

import greenlet


def switch_back():
    switch = main.switch
    while True:
        switch(None)


main = greenlet.getcurrent()
other = greenlet.greenlet(switch_back)
other.switch()
switch = other.switch
start = time.perf_counter_ns()
for _ in range(int(sys.argv[1]) // 2):
    switch(None)
print(time.perf_counter_ns() - start)
