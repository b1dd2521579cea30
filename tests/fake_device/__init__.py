"""A make-believe accelerator: a device without hardware that notices mixed devices and counts launches and host syncs.

Run it as a process of its own (``python -m tests.fake_device``): it registers a backend of torch, which cannot be undone.
``tests/decode/test_accelerator.py`` checks what it prints.
"""
