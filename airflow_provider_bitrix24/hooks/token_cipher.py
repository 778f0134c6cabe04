"""Tokens as a text that only who knows a secret can read: stores have many readers, and so have debug logs."""

from __future__ import annotations

import base64
import hashlib

from airflow_provider_bitrix24.api.tokens import Tokens


class TokenCipher:
    """A cipher from a secret that a person may have thought up.

    :param key: the secret: ``token_key`` of the connection, or its client secret.
    :param salt: what the tokens belong to.
    """

    def __init__(self, key: str, salt: str) -> None:
        from cryptography.fernet import Fernet

        whole_salt = f"airflow-provider-bitrix24 {salt}".encode()
        made = hashlib.scrypt(key.encode(), salt=whole_salt, n=2**14, r=8, p=1, dklen=32)
        self._fernet = Fernet(base64.urlsafe_b64encode(made))

    def encrypt(self, tokens: Tokens) -> str:
        """Return the tokens as a text."""
        return self._fernet.encrypt(tokens.as_json().encode()).decode()

    def decrypt(self, text: str) -> Tokens:
        """Return the tokens in a text.

        :raises ValueError: it was closed with another secret, or is something else.
        """
        from cryptography.fernet import InvalidToken

        try:
            return Tokens.from_json(self._fernet.decrypt(text.encode()).decode())
        except InvalidToken:
            pass
        raise ValueError("not readable with this secret")
