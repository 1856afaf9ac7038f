package config

import "testing"

func TestSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"256MiB": 256 << 20, "1 GiB": 1 << 30, "1.5GiB": 3 << 29, "500MB": 500e6, "64 KiB": 64 << 10,
		"": -1, "512": -1, "MiB": -1, "-1MiB": -1, "1e400GiB": -1, "NaNMiB": -1, "1PiB": -1,
	} {
		got, err := size(in)
		if (want < 0) != (err != nil) || err == nil && got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}
