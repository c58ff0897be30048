"""What goes wrong between this computer and the hub, in sentences of ours.

The messages of huggingface_hub repeat addresses and headers; none of ours contains the token, or repeats the text of a
request or an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from core.errors import DownloadProblem, GatedProblem


class Named(Protocol):
    """What messages about a download say of the model."""

    @property
    def title(self) -> str: ...
    @property
    def page(self) -> str: ...
    @property
    def gated(self) -> str: ...


class Busy(Exception):
    """The connection broke, or the server asked to retry later."""


def check_token() -> None:
    """Raise DownloadProblem for a token that an HTTP header cannot carry, without repeating it."""
    token = get_token() or ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise DownloadProblem("Your Hugging Face token is malformed: it contains spaces or invalid characters.")


@contextmanager
def hub_errors_as_problem(known: Named, repo: str) -> Iterator[None]:
    """Turn errors of huggingface_hub, whose messages repeat addresses and headers, into messages of ours."""
    where = f"{endpoint()}/{repo}"
    try:
        yield
    except GatedRepoError:
        raise GatedProblem(_gated_message(known)) from None
    except RepositoryNotFoundError:
        raise DownloadProblem(
            f"{where} does not exist, or is not visible to you. Look at its page in a browser; it may have moved."
        ) from None
    except EntryNotFoundError:
        raise DownloadProblem(f"A file that {where} lists is missing. Try again later; it may be changing.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        words = {
            401: "Hugging Face rejects your token: it may be mistyped, revoked or expired. Make a new one.",
            403: "Your Hugging Face token has no access: give it the right to read, or make a new one.",
            429: "Too many requests to Hugging Face. Wait some minutes, then try again.",
        }
        raise DownloadProblem(
            words.get(status, f"Hugging Face answered with an error ({status}). Try again later.")
        ) from None
    except OfflineModeIsEnabled:
        raise DownloadProblem("HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and start again.") from None
    except (Busy, httpx2.HTTPError, httpx2.InvalidURL):
        raise DownloadProblem(
            f"The connection to {endpoint()} was lost. Try again to continue with what has arrived."
        ) from None


def _gated_message(known: Named) -> str:
    accept = f"Open {known.page} in a browser, sign in, and accept {known.gated or 'what is asked there'}."
    if get_token() is None:
        return (
            f"{known.title} requires that you accept its conditions first. {accept} Then make a token with the right "
            "to read (Settings, Access Tokens), save it on this computer with hf auth login in a terminal, or start "
            "Likeness with it in HF_TOKEN. Then try again."
        )
    return (
        f"The account of your token has no access to {known.title} yet. {accept} Some owners approve later; a "
        "fine-grained token also needs the right to read gated repositories. Then try again."
    )


def endpoint() -> str:
    """The address of Hugging Face, or HF_ENDPOINT."""
    return constants.ENDPOINT
