"""What an audio file holds by its own bookkeeping, read without decoding: whole, joined of several, cut off, damaged.

Decoders return what they could decode and say nothing of the rest. Here the bytes are counted first: the chunks of WAV
and its like, the frames of MPEG audio and FLAC, the pages of Ogg. What is decoded is then compared with that.
"""
