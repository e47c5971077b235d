package opa

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

const (
	maxWords    = 1024 // of one bundle
	maxWord     = 128  // bytes; a longer constant is prose
	maxProbes   = 4096 // of one proof
	mixedProbes = 64   // that put words into several positions at once
)

// words are the string constants of a bundle, cut at slashes: what a rule may
// treat as special is most likely one of them.
type words struct {
	levels []string   // each may stand where a filter has a wildcard
	topics [][]string // constants of several levels
}

// wordsOf collects the constants of the rules, and then those of the data for as
// long as there is room.
func wordsOf(modules map[string]*ast.Module, data map[string]any) *words {
	all := map[string]bool{}
	add := func(s string) {
		if len(all) < maxWords && len(s) <= maxWord {
			all[s] = true
		}
	}
	for _, m := range modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				add(string(s))
			}
			return false
		})
	}
	addData(data, add)

	w := &words{}
	levels := map[string]bool{}
	for s := range all {
		parts := strings.Split(s, "/")
		for _, part := range parts {
			if topic.CheckText(part) && !strings.ContainsAny(part, "+#") {
				levels[part] = true
			}
		}
		if _, err := topic.ParseRoutedName(s); err == nil && len(parts) > 1 {
			w.topics = append(w.topics, parts)
		}
	}
	w.levels = sortedSet(levels)
	slices.SortFunc(w.topics, slices.Compare[[]string])
	return w
}

func addData(v any, add func(string)) {
	switch v := v.(type) {
	case string:
		add(v)
	case []any:
		for _, x := range v {
			addData(x, add)
		}
	case map[string]any:
		for k, x := range v {
			add(k)
			addData(x, add)
		}
	}
}

// finding is what one probe or all of a proof came to.
type finding uint8

const (
	agrees finding = iota
	disagrees
	unsettled // no answer in time
)

// prober asks about the topics that a covering covers.
type prober struct {
	check
	ctx    context.Context
	answer func(*policy.Request) answer // with one clock for all: what changes with it is no mismatch
	end    time.Time
	base   answer

	asked   int
	differs *policy.Request // that contradicted the base
	other   answer
}

// ask evaluates r and compares.
func (p *prober) ask(r *policy.Request) finding {
	if p.ctx.Err() != nil || p.asked == maxProbes || time.Now().After(p.end) {
		return unsettled
	}
	p.asked++
	a := p.answer(r)
	switch {
	case a.Cause == policy.CauseTimeout || a.Cause == policy.CauseQuota || p.base.Cause != policy.CauseNone && p.base.Cause != policy.CausePolicy:
		return unsettled
	case a.saysSame(&p.base):
		return agrees
	}
	p.differs, p.other = r, a
	return disagrees
}

// try asks about levels, if that is a topic which is covered and which this
// client can write.
func (p *prober) try(levels []string) finding {
	if !slices.ContainsFunc(p.covering.filters, func(f []string) bool { return covered(f, levels) }) {
		return agrees
	}
	if _, err := topic.ParseRoutedName(strings.Join(levels, "/")); err != nil {
		return agrees
	}
	r := p.covering.at(levels)
	if r == nil {
		return agrees
	}
	return p.ask(r)
}

// quick asks a few questions: a random word in all wildcard positions, and in
// each of them a number.
func (p *prober) quick() finding {
	for _, f := range p.covering.filters {
		base := fill(f, randomWord)
		if found := p.try(base); found != agrees {
			return found
		}
		if found := p.replace(f, base, []string{randomNumber()}); found != agrees {
			return found
		}
	}
	return agrees
}

// full asks about every word in every wildcard position, beside random words and
// beside the levels of the topic that was asked; then about words in all
// positions at once, and about the constants of several levels.
func (p *prober) full(w *words) finding {
	all := slices.Concat(w.levels, p.own(), []string{randomWord(), randomNumber()})
	slices.Sort(all)
	all = slices.Compact(all)
	for _, f := range p.covering.filters {
		if found := p.replace(f, fill(f, randomWord), all); found != agrees {
			return found
		}
		if covered(f, p.covering.request.Levels) {
			if found := p.replace(f, p.covering.request.Levels, all); found != agrees {
				return found
			}
		}
		for range mixedProbes {
			if found := p.try(fill(f, func() string { return all[randomBelow(len(all))] })); found != agrees {
				return found
			}
		}
	}
	for _, constant := range w.topics {
		if found := p.lay(constant); found != agrees {
			return found
		}
	}
	return agrees
}

// lay asks about topics that have constant somewhere in them, or that the client
// writes so.
func (p *prober) lay(constant []string) finding {
	if s := p.covering.spelling; s != nil {
		if rest, ok := strings.CutPrefix(strings.Join(constant, "/"), s.client); ok {
			if found := p.try(slices.Concat(s.org, strings.Split(rest, "/"))); found != agrees {
				return found
			}
		}
	}
	for _, f := range p.covering.filters {
		base := fill(f, randomWord)
		for at := range base {
			levels := slices.Concat(base[:at], constant)
			if len(levels) < len(base) {
				levels = append(levels, base[len(levels):]...)
			}
			if found := p.try(levels); found != agrees {
				return found
			}
		}
	}
	return agrees
}

// replace asks about base with each of all in each wildcard position of f. A #
// also stands for no level, for several, and for as many as there can be.
func (p *prober) replace(f, base []string, all []string) finding {
	for i, level := range f {
		if !isWildcard(level) {
			continue
		}
		for _, word := range all {
			changed := slices.Clone(base)
			if level == "#" {
				changed = append(changed[:i], word)
			} else {
				changed[i] = word
			}
			if found := p.try(changed); found != agrees {
				return found
			}
			if level == "#" {
				if found := p.try(slices.Concat(base[:i], []string{randomWord(), word})); found != agrees {
					return found
				}
			}
		}
		if level == "#" {
			deepest := slices.Concat(base[:i], slices.Repeat([]string{randomWord()[:8]}, topic.MaxRoutedLevels-i))
			for _, levels := range [][]string{base[:i], deepest} {
				if found := p.try(levels); found != agrees {
					return found
				}
			}
		}
	}
	return agrees
}

// fill puts a word into every wildcard position of f.
func fill(f []string, word func() string) []string {
	levels := slices.Clone(f)
	for i, level := range levels {
		if isWildcard(level) {
			levels[i] = word()
		}
	}
	return levels
}

// own are the words that name the asker: a rule may compare a level with them.
func (p *prober) own() []string {
	f := p.judge.facts
	if f == nil || f.Principal == nil {
		return nil
	}
	all := slices.Concat(identity(f.Principal), f.Principal.Roles, f.Principal.Groups, f.Principal.MemberOf)
	return slices.DeleteFunc(all, func(s string) bool { return s == "" || strings.ContainsAny(s, "/+#") })
}

func identity(p *policy.Principal) []string {
	return []string{p.Org.String(), string(p.Type), string(p.ID), string(p.App), p.APIKey}
}

// shapeKey is equal for coverings that a rule most likely tells apart by nothing
// but the identity of the asker.
func (c check) shapeKey() string {
	var key strings.Builder
	put := func(parts ...string) {
		for _, s := range parts {
			fmt.Fprintf(&key, "%d:%s,", len(s), s)
		}
		key.WriteByte(';')
	}
	d := c.covering.decision
	put(c.entry.ref.String(), fmt.Sprint(d.Allow, d.Retain, d.OnDeny, d.Register))
	var own []string
	if f := c.judge.facts; f != nil && f.Principal != nil {
		p := f.Principal
		put(p.Kind.String(), p.Verifier, fmt.Sprint(p.Registered, p.Restricted))
		put(sorted(p.Roles)...)
		put(sorted(p.Permissions)...)
		put(sorted(p.Groups)...)
		put(sorted(p.MemberOf)...)
		own = identity(p)
	}
	for _, f := range c.covering.filters {
		levels := slices.Clone(f)
		for i, level := range levels {
			if level != "" {
				if n := slices.Index(own, level); n >= 0 {
					levels[i] = fmt.Sprint("#", n) // no filter has such a level
				}
			}
		}
		put(levels...)
	}
	return key.String()
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

func sortedSet(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for s := range set {
		list = append(list, s)
	}
	slices.Sort(list)
	return list
}

func randomWord() string { return strings.ToLower(rand.Text()) }

func randomNumber() string { return fmt.Sprint(1e8 + randomBelow(9e8)) }

// randomBelow is near enough to even for choosing a word.
func randomBelow(n int) int {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: the process ends instead
	return int(binary.BigEndian.Uint64(b[:]) % uint64(n))
}
