package opa

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Bounds of an answer.
const (
	maxReason   = 1024 // bytes; it goes into an MQTT string
	maxNames    = 256  // roles, groups
	maxCovers   = 16   // each is probed, and looked at when a topic is not remembered
	maxName     = 1024 // bytes of one of them
	maxTTL      = 10 * 365 * 24 * time.Hour
	maxRate     = 1e9
	maxExpiryMS = 1 << 53 // what JSON numbers carry exactly
)

// answer is a decoded decision before it is given an ID and an end.
type answer struct {
	policy.Decision
	ttl    time.Duration
	hasTTL bool
}

// field reads one value into an answer.
type field func(*answer, ast.Value) error

// answerFields are the closed set of fields of each action's decision. Read only.
var answerFields = map[policy.Action]map[string]field{
	policy.ActionConnect: {
		"allow": allowField, "reason": reasonField, "ttl": ttlField, "on_deny": onDenyField,
		"mounts": mountsField, "roles": rolesField, "groups": groupsField, "limits": limitsField,
		"expires_at": expiresAtField, "share": shareField, "register": registerField, "violation": violationField,
	},
	policy.ActionPublish: {
		"allow": allowField, "reason": reasonField, "ttl": ttlField, "on_deny": onDenyField,
		"retain": retainField, "covers": coversField, "register": registerField, "notify": notifyField,
	},
	policy.ActionSubscribe: {
		"allow": allowField, "reason": reasonField, "ttl": ttlField, "on_deny": onDenySubscribeField,
		"qos": qosField, "register": registerField, "notify": notifyField,
	},
	policy.ActionReceive: {
		"allow": allowField, "reason": reasonField, "ttl": ttlField, "covers": coversField,
	},
	policy.ActionAdminister: {
		"allow": allowField, "reason": reasonField, "ttl": ttlField, "on_deny": onDenyAdministerField,
		"groups": withinField,
	},
}

// decode reads the answer to action. It is strict: a field nobody knows, a value
// of another type or out of its range is an error. A missing allow denies.
func decode(action policy.Action, v ast.Value) (answer, error) {
	a := answer{}
	switch action {
	case policy.ActionConnect:
		a.Limits = policy.DefaultLimits()
	case policy.ActionSubscribe:
		a.MaxQoS = 2
	case policy.ActionNone, policy.ActionPublish, policy.ActionReceive, policy.ActionAdminister: // zero values
	}
	return a.decode(action, answerFields[action], v)
}

// decode reads the known fields of v over those that a has.
func (a answer) decode(action policy.Action, known map[string]field, v ast.Value) (answer, error) {
	o, ok := v.(ast.Object)
	if !ok {
		return answer{}, fmt.Errorf("decision %w", want("an object", v))
	}
	err := eachField(o, "decision", func(name string, v ast.Value) error {
		read := known[name]
		if read == nil {
			return errUnknownField
		}
		return read(&a, v)
	})
	if err != nil {
		return answer{}, err
	}
	if !a.Allow {
		a.Cause = policy.CausePolicy
	}
	if a.Allow && a.Register {
		return answer{}, errors.New("decision.register is of an answer that denies: what is to be registered is not there yet")
	}
	if a.Allow && a.Violation != "" {
		return answer{}, errors.New("decision.violation is of an answer that denies")
	}
	if a.hasTTL && a.ttl < time.Second && (action == policy.ActionConnect || action == policy.ActionSubscribe) {
		return answer{}, errors.New("decision.ttl has to be at least 1 second here: when it ends, the question is asked again")
	}
	return a, nil
}

var errUnknownField = errors.New("is no field of this answer")

// eachField reads the fields in the order of their names, so that of several
// errors the same one is reported each time.
func eachField(o ast.Object, path string, read func(name string, v ast.Value) error) error {
	return o.Iter(func(k, v *ast.Term) error {
		name, ok := k.Value.(ast.String)
		if !ok {
			return fmt.Errorf("%s has a field whose name is no string", path)
		}
		if err := read(string(name), v.Value); err != nil {
			return fmt.Errorf("%s.%s %w", path, shorten(string(name)), err)
		}
		return nil
	})
}

func allowField(a *answer, v ast.Value) error {
	allow, ok := v.(ast.Boolean)
	if !ok {
		return want("a boolean", v)
	}
	a.Allow = bool(allow)
	return nil
}

func reasonField(a *answer, v ast.Value) (err error) {
	a.Reason, err = textOf(v, maxReason)
	return err
}

func ttlField(a *answer, v ast.Value) error {
	s, err := numberOf(v, 0, maxTTL.Seconds())
	if err != nil {
		return err
	}
	a.ttl, a.hasTTL = seconds(s), true
	return nil
}

func onDenyField(a *answer, v ast.Value) (err error) {
	a.OnDeny, err = wordOf(v, policy.Refuse, policy.Drop, policy.Close)
	return err
}

// A refused filter is told so in its SUBACK code; there is nothing to drop.
func onDenySubscribeField(a *answer, v ast.Value) (err error) {
	a.OnDeny, err = wordOf(v, policy.Refuse, policy.Close)
	return err
}

// A refused call is told so, or finds nothing.
func onDenyAdministerField(a *answer, v ast.Value) (err error) {
	a.OnDeny, err = wordOf(v, policy.Refuse, policy.Hide)
	return err
}

// withinField tells no groups from none stated: those are all devices.
func withinField(a *answer, v ast.Value) error {
	groups, err := namesOf(v, maxNames)
	a.Groups = append([]string{}, groups...)
	return err
}

func registerField(a *answer, v ast.Value) error {
	register, ok := v.(ast.Boolean)
	if !ok {
		return want("a boolean", v)
	}
	a.Register = bool(register)
	return nil
}

// violationField is a name of the policy's own, by which violations are counted.
func violationField(a *answer, v ast.Value) error {
	s, err := textOf(v, maxViolation)
	for i := 0; err == nil && i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' {
			err = errors.New("has another character than a to z and _")
		}
	}
	if err == nil && s == "" {
		err = errors.New("is empty")
	}
	a.Violation = s
	return err
}

// maxViolation is the longest name of a violation, in bytes.
const maxViolation = 36

// notifyField demands the topic, and one that a message can be sent to.
func notifyField(a *answer, v ast.Value) error {
	o, ok := v.(ast.Object)
	if !ok {
		return want("an object", v)
	}
	err := eachField(o, "", func(name string, v ast.Value) error {
		switch name {
		case "topic":
			s, err := textOf(v, topic.MaxRoutedBytes)
			if err != nil {
				return err
			}
			a.Notify.Topic, err = topic.ParseRoutedName(s)
			if err == nil && a.Notify.Topic.IsSystem() {
				err = errors.New("belongs to the broker")
			}
			return err
		case "code":
			n, err := integerOf(v, 0, math.MaxUint16)
			a.Notify.Code = int(n)
			return err
		default:
			return errUnknownField
		}
	})
	if err == nil && a.Notify.IsZero() {
		err = errors.New("has no topic")
	}
	return err
}

func retainField(a *answer, v ast.Value) (err error) {
	a.Retain, err = wordOf(v, policy.RetainKeep, policy.RetainStrip, policy.RetainRefuse)
	return err
}

func qosField(a *answer, v ast.Value) error {
	n, err := integerOf(v, 0, 2)
	a.MaxQoS = byte(n)
	return err
}

func rolesField(a *answer, v ast.Value) (err error) {
	a.Roles, err = namesOf(v, maxNames)
	return err
}

func groupsField(a *answer, v ast.Value) (err error) {
	a.Groups, err = namesOf(v, maxNames)
	return err
}

func expiresAtField(a *answer, v ast.Value) error {
	ms, err := integerOf(v, 1, maxExpiryMS)
	if err == nil {
		a.ExpiresAt = time.UnixMilli(ms)
	}
	return err
}

func shareField(a *answer, v ast.Value) error {
	s, err := textOf(v, maxName)
	if err == nil && (s == "" || strings.ContainsAny(s, "/+#")) {
		err = errors.New("is empty or has one of / + #")
	}
	a.Share = s
	return err
}

func coversField(a *answer, v ast.Value) error {
	names, err := namesOf(v, maxCovers)
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := topic.ParseRoutedFilter(name)
		if err != nil {
			return fmt.Errorf("has %q: %w", shorten(name), err)
		}
		a.Covers = append(a.Covers, f)
	}
	return nil
}

func mountsField(a *answer, v ast.Value) error {
	var list []topic.Mount
	err := each(v, topic.MaxMounts, func(v ast.Value) error {
		o, ok := v.(ast.Object)
		if !ok {
			return want("an array of objects", v)
		}
		m, err := mountOf(o)
		list = append(list, m)
		return err
	})
	if err != nil {
		return err
	}
	a.Mounts, err = topic.NewMounts(list)
	if err != nil {
		return fmt.Errorf("is refused: %w", err)
	}
	return nil
}

// mountOf demands both prefixes: a misspelt one would mount everything.
func mountOf(o ast.Object) (m topic.Mount, err error) {
	var client, org bool
	err = eachField(o, "", func(name string, v ast.Value) (err error) {
		switch name {
		case "client":
			client = true
			m.Client, err = textOf(v, topic.MaxRoutedBytes)
		case "org":
			org = true
			m.Org, err = textOf(v, topic.MaxRoutedBytes)
		case "device":
			m.Device, err = deviceLevelsOf(v)
		default:
			err = errUnknownField
		}
		return err
	})
	if err == nil && !(client && org) {
		err = errors.New("has a mount without client or org")
	}
	return m, err
}

func deviceLevelsOf(v ast.Value) (*topic.DeviceLevels, error) {
	o, ok := v.(ast.Object)
	if !ok {
		return nil, want("an object", v)
	}
	d := &topic.DeviceLevels{Type: -1, ID: -1}
	err := eachField(o, "", func(name string, v ast.Value) error {
		n, err := integerOf(v, 0, topic.MaxRoutedLevels-1)
		switch name {
		case "type":
			d.Type = int(n)
		case "id":
			d.ID = int(n)
		default:
			return errUnknownField
		}
		return err
	})
	return d, err
}

// each visits the elements of an array or a set.
func each(v ast.Value, most int, visit func(ast.Value) error) error {
	var list interface {
		Len() int
		Iter(func(*ast.Term) error) error
	}
	switch v := v.(type) {
	case *ast.Array:
		list = v
	case ast.Set:
		list = v
	default:
		return want("an array", v)
	}
	if list.Len() > most {
		return fmt.Errorf("has %d elements, at most %d are possible", list.Len(), most)
	}
	return list.Iter(func(t *ast.Term) error { return visit(t.Value) })
}

func namesOf(v ast.Value, most int) (names []string, err error) {
	err = each(v, most, func(v ast.Value) error {
		s, err := textOf(v, maxName)
		names = append(names, s)
		return err
	})
	return names, err
}

func textOf(v ast.Value, most int) (string, error) {
	s, ok := v.(ast.String)
	switch {
	case !ok:
		return "", want("a string", v)
	case len(s) > most:
		return "", fmt.Errorf("has %d bytes, at most %d are possible", len(s), most)
	case !topic.CheckText(string(s)):
		return "", errors.New("has a control character")
	}
	return string(s), nil
}

// wordOf finds the one of words that v spells.
func wordOf[W fmt.Stringer](v ast.Value, words ...W) (w W, err error) {
	s, ok := v.(ast.String)
	if !ok {
		return w, want("a string", v)
	}
	i := slices.IndexFunc(words, func(w W) bool { return w.String() == string(s) })
	if i < 0 {
		return w, fmt.Errorf("is %q; it has to be one of %v", shorten(string(s)), words)
	}
	return words[i], nil
}

func numberOf(v ast.Value, least, most float64) (float64, error) {
	n, ok := v.(ast.Number)
	if !ok {
		return 0, want("a number", v)
	}
	f, ok := n.Float64()
	if !ok || math.IsNaN(f) || f < least || f > most {
		return 0, fmt.Errorf("is %s; it has to lie between %v and %v", shorten(string(n)), least, most)
	}
	return f, nil
}

func integerOf(v ast.Value, least, most int64) (int64, error) {
	f, err := numberOf(v, float64(least), float64(most))
	if err != nil {
		return 0, err
	}
	if f != math.Trunc(f) {
		return 0, fmt.Errorf("is %v, which is no whole number", f)
	}
	return int64(f), nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func want(kind string, v ast.Value) error {
	return fmt.Errorf("has to be %s, and is %s", kind, ast.ValueName(v))
}

func shorten(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
