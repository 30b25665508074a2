"""Sign-in and sign-out: by key, and by OpenID Connect."""
