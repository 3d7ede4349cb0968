"""Which kind of file a file is, by its first bytes, and the survey for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hear_byols.containers.chunks import RIFF64, survey_aiff, survey_au, survey_caf, survey_w64, survey_wav
from hear_byols.containers.content import Content, Survey, after_tags, whole
from hear_byols.containers.flac import survey_flac
from hear_byols.containers.frames import ac3_bytes, adts_bytes, follow, is_adts, survey_amr, survey_flv
from hear_byols.containers.headers import survey_avi, survey_matroska, survey_mp4, survey_nist, survey_svx, survey_voc
from hear_byols.containers.mpeg import find_frame, survey_mpeg
from hear_byols.containers.ogg import survey_ogg
from hear_byols.errors import InputError

LIBSNDFILE, FFMPEG = "libsndfile", "ffmpeg"
_EITHER = (LIBSNDFILE, FFMPEG)


def _single(content: Content, start: int) -> Survey:
    """Of these a decoder finds the end; of several that are joined it reads the first."""
    if (second := content.find(content.at(start, 6), start + 6)) >= 0:
        raise InputError(f"is several files joined; a second begins at byte {second}")
    return whole(content, start)


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str  # for messages
    survey: Callable[[Content, int], Survey] = whole  # counts what it holds
    readers: tuple[str, ...] = (FFMPEG,)  # who is asked to decode it, one after the other


UNKNOWN = Kind("no kind of audio file that is known here", readers=(LIBSNDFILE,))
_HEADS = {
    b"RIFF": Kind("WAV", survey_wav, (LIBSNDFILE,)),
    b"RIFX": Kind("WAV", survey_wav, (LIBSNDFILE,)),
    b"RF64": Kind("RF64", survey_wav, (LIBSNDFILE,)),
    b"BW64": Kind("BW64", survey_wav, _EITHER),
    b"FORM": Kind("AIFF", survey_aiff, (LIBSNDFILE,)),
    b".snd": Kind("AU", survey_au, (LIBSNDFILE,)),
    b"dns.": Kind("AU", survey_au, (LIBSNDFILE,)),
    b"caff": Kind("CAF", survey_caf, _EITHER),
    b"fLaC": Kind("FLAC", survey_flac, (LIBSNDFILE,)),
    b"OggS": Kind("Ogg", survey_ogg, _EITHER),
    b"\x1a\x45\xdf\xa3": Kind("Matroska or WebM", survey_matroska),
    b"\x30\x26\xb2\x75": Kind("Windows Media"),
    b"#!AM": Kind("AMR", survey_amr),
    b"wvpk": Kind("WavPack"),
    b"MAC ": Kind("Monkey's Audio", _single),
    b"TTA1": Kind("True Audio", _single),
    b"MPCK": Kind("Musepack", _single),
    b"NIST": Kind("NIST SPHERE", survey_nist, (LIBSNDFILE,)),
    b"Crea": Kind("Creative Voice", survey_voc, (LIBSNDFILE,)),
    b".RMF": Kind("RealMedia"),
    b"FLV\x01": Kind("Flash video", survey_flv),
}
_OTHER_FORMS = {
    b"AVI ": Kind("AVI", survey_avi),
    b"8SVX": Kind("SVX", survey_svx, (LIBSNDFILE,)),
    b"16SV": Kind("SVX", survey_svx, (LIBSNDFILE,)),
}


def find_kind(content: Content) -> tuple[Kind, int]:
    """The kind of a file, and the byte at which it begins behind its tags."""
    start = after_tags(content)
    head = content.at(start, 512)
    if not head:
        return Kind("empty", readers=()), start
    if head[:4] in _HEADS:
        if head[:4] in (b"RIFF", b"FORM") and head[8:12] not in (b"WAVE", b"AIFF", b"AIFC"):
            return _OTHER_FORMS.get(head[8:12], UNKNOWN), start
        return _HEADS[head[:4]], start
    if head[:16] == RIFF64:
        return Kind("Wave64", survey_w64, (LIBSNDFILE,)), start
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return Kind("MPEG-4 or QuickTime", survey_mp4), start
    if head.lstrip()[:1] == b"<":
        return Kind("a web page", readers=()), start
    if is_adts(head):
        return Kind("AAC", partial(follow, length=adts_bytes)), start
    if head[:2] == b"\x0b\x77":
        return Kind("AC-3", partial(follow, length=ac3_bytes)), start
    searched = min(content.size, start + (1 << 17))
    is_mpeg = find_frame(content, start, searched) < searched
    return (Kind("MPEG audio", survey_mpeg, _EITHER) if is_mpeg else UNKNOWN), start
