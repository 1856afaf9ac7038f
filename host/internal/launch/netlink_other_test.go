//go:build !linux

package launch_test

import "errors"

func netlink(int) error { return errors.ErrUnsupported }
