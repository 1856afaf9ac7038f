package bench

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// memory sums the resident memory of a process and its descendants: rss counts shared pages in each process, pss once.
func memory(pid int) (procs int, rss, pss float64, err error) {
	pids := append(descendants(pid), pid)
	for _, p := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return 0, 0, 0, err
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			fields := strings.Fields(sc.Text())
			if len(fields) < 2 {
				continue
			}
			kb, _ := strconv.ParseFloat(fields[1], 64)
			switch fields[0] {
			case "Rss:":
				rss += kb / 1024
			case "Pss:":
				pss += kb / 1024
			}
		}
		_ = f.Close()
	}
	return len(pids), rss, pss, nil
}

// descendants lists the processes below pid.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue // it ended meanwhile
		}
		// The name in brackets may hold anything.
		rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(rest) < 2 {
			continue
		}
		ppid, _ := strconv.Atoi(rest[1])
		p, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		children[ppid] = append(children[ppid], p)
	}
	var all []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all
}

// tick is the unit of processor time in /proc: 100 to the second on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// usage is the processor time that processes have used so far, by role.
type usage map[string]time.Duration

// cpu reads the usage of the host, its connectors (by name), and this process, which is the load and the fakes.
func cpu(host int) (usage, error) {
	u := usage{}
	for _, pid := range append(descendants(host), host, os.Getpid()) {
		dir := "/proc/" + strconv.Itoa(pid)
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return nil, err
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 {
			return nil, errors.New(dir + "/stat is not what it should be")
		}
		user, uerr := strconv.ParseInt(fields[11], 10, 64)
		system, serr := strconv.ParseInt(fields[12], 10, 64)
		if err := errors.Join(uerr, serr); err != nil {
			return nil, err
		}
		role := "load and fakes"
		switch pid {
		case os.Getpid():
		case host:
			role = "host"
		default:
			line, err := os.ReadFile(dir + "/cmdline")
			if err != nil {
				return nil, err
			}
			role, _, _ = strings.Cut(string(line), "\x00")
		}
		u[role] += time.Duration(user+system) * tick
	}
	return u, nil
}

// since is what was used after before, for each of n things, in microseconds: ours of the host and its connectors
// together, and a sentence about all.
func (u usage) since(before usage, n int) (ours float64, about string) {
	roles := slices.SortedFunc(maps.Keys(u), func(a, b string) int { return cmp.Compare(u[b]-before[b], u[a]-before[a]) })
	var parts []string
	for _, r := range roles {
		us := float64((u[r] - before[r]).Microseconds()) / float64(n)
		if us < 1 {
			continue
		}
		if r != "load and fakes" {
			ours += us
		}
		parts = append(parts, fmt.Sprintf("%s %.0f", r, us))
	}
	return ours, strings.Join(parts, ", ")
}
