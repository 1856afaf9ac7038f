//go:build unix && !darwin && !freebsd && !netbsd

package launch

import "syscall"

func changeTime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }
