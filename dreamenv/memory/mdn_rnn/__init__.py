"""The MDN-RNN of World Models: `model` is the file to read, `fast` may be skipped."""
