"""Operations behind commands: backup, doctor, bootstrap, supervisor, sweeps, warm start."""
