"""What tests of storage share: a store, and processes that may have fewer rights."""

import multiprocessing
import os

import numpy as np

from pipeline.storage import zarr_store

NOBODY = 65534
IMAGE = np.random.default_rng(0).integers(-1000, 1000, (6, 30, 26)).astype(np.int16)
LABEL = (IMAGE > 900).astype(np.uint8)


def in_child(function, *arguments):
    """What `function` returned or raised in a process of its own, which may give up its rights."""
    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)

    def run():
        try:
            send.send(function(*arguments))
        except BaseException as error:
            send.send(error)

    child = fork.Process(target=run)
    child.start()
    result = receive.recv()
    child.join()
    return result


def as_another_user(function, *arguments):
    """What `function` returned or raised in a process without root's rights."""

    def give_up_rights():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return function(*arguments)

    return in_child(give_up_rights)


def write(path, fingerprint="f"):
    zarr_store.write_store(path, {"image": IMAGE, "label": LABEL}, {"fingerprint": fingerprint})


def read_whole(path):
    return zarr_store.read_array(zarr_store.open_store(path), "image")
