//go:build !unix

package launch

import "os"

func identify(*os.File) (fileID, bool) { return fileID{}, false }

func onlyRootCanChange(*os.File) bool { return false }
