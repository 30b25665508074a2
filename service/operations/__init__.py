"""What commands do when it is more than a call: backup, doctor, bootstrap, supervisor."""
