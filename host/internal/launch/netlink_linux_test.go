package launch_test

import "golang.org/x/sys/unix"

// netlink opens and closes a socket of one of netlink's protocols.
func netlink(protocol int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
