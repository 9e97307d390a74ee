"""All that a server can be told, checked once. Opens nothing."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MIB = 1024 * 1024


class ServerSettings(BaseModel):
    """Settings of one server.

    Attributes:
        home: directory of the memories, the journal and the index.
        api_keys: file of hashed keys (``mplus serve keys add``); None: no keys, and the server binds to loopback only.
        memory_budget: bytes of memories that are held at once; the least recently used ones are saved and closed.
        batch: answers that are decoded at once.
        prefill_tokens: prompt tokens that pass between two decode steps.
        share: encode a text once for all tenants; who writes a known text can tell by the time it takes, so it is off.
        user_is_memory: take OpenAI's ``user`` as the id of a memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_keys: Path | None = None
    memory_budget: int = Field(2048 * MIB, ge=MIB)
    batch: int = Field(16, ge=1, le=256)
    prefill_tokens: int = Field(256, ge=16)
    share: bool = False
    user_is_memory: bool = False
    most_body_bytes: int = Field(8 * MIB, ge=1024)
    most_upload_bytes: int = Field(64 * MIB, ge=1024)
    most_prompt_tokens: int = Field(4096, ge=16)
    most_new_tokens: int = Field(1024, ge=1)
    most_waiting: int = Field(256, ge=1, description="requests that wait or run at once; more are told 429")
    requests_per_minute: int | None = Field(None, ge=1, description="per tenant; None: no limit")
    tenant_bytes: int | None = Field(None, ge=0, description="stored bytes of a tenant where no quota is set; None: no limit")
    cors_origins: tuple[str, ...] = ()
    body_timeout_s: float = Field(30.0, gt=0)
    drain_timeout_s: float = Field(30.0, gt=0)
