package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// userHZ is the unit of times in /proc on Linux, whatever the kernel ticks in.
const userHZ = 100

// usage is what the kernel says of a process.
type usage struct {
	cpu      time.Duration // user and system, to 10 ms
	resident int64         // bytes
	peak     int64         // most bytes resident so far
	threads  int64
}

func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	return parseUsage(string(stat), string(status))
}

// parseUsage reads utime and stime, the 12th and 13th field after the name,
// which may hold anything and stands in parentheses; and lines of status.
func parseUsage(stat, status string) (u usage, err error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return u, errors.New("/proc/PID/stat is too short")
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, err
		}
		ticks += n
	}
	u.cpu = time.Duration(ticks) * (time.Second / userHZ)
	for name, value := range map[string]*int64{"VmRSS:": &u.resident, "VmHWM:": &u.peak, "Threads:": &u.threads} {
		if *value, err = statusLine(status, name); err != nil {
			return u, err
		}
	}
	return u, nil
}

// statusLine is a number of /proc/PID/status, in bytes where it has a unit.
func statusLine(status, name string) (int64, error) {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		number, kilobytes := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if kilobytes {
			n <<= 10
		}
		return n, err
	}
	return 0, fmt.Errorf("/proc/PID/status has no %s", name)
}

// folderSize is how many bytes of disk the files below dir take. Files of the
// store are sparse, so that their lengths say little. What vanishes meanwhile
// does not count.
func folderSize(dir string) (int64, error) {
	const block = 512 // bytes, whatever the file system's own is
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				if stat, ok := info.Sys().(*syscall.Stat_t); ok {
					total += stat.Blocks * block
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return total, err
}
