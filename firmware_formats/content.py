"""What a firmware file is handed over as: bytes, or a file mapped into memory."""

import mmap

Content = bytes | bytearray | memoryview | mmap.mmap
