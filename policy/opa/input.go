package opa

import (
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// key holds the names of input's fields as terms, so that no evaluation makes
// them again. Read only; terms are immutable.
var key = struct {
	action, principal, org, client,
	topic, levels, qos, retain, size, will, properties, device,
	contentType, responseTopic, messageExpiry, user,
	typ, id, registered, status, groups,
	filter, share, method, route, target, allow, onBehalfOf *ast.Term
}{
	action: ast.StringTerm("action"), principal: ast.StringTerm("principal"), org: ast.StringTerm("org"), client: ast.StringTerm("client"),
	topic: ast.StringTerm("topic"), levels: ast.StringTerm("levels"), qos: ast.StringTerm("qos"), retain: ast.StringTerm("retain"),
	size: ast.StringTerm("size"), will: ast.StringTerm("will"), properties: ast.StringTerm("properties"), device: ast.StringTerm("device"),
	contentType: ast.StringTerm("content_type"), responseTopic: ast.StringTerm("response_topic"),
	messageExpiry: ast.StringTerm("message_expiry"), user: ast.StringTerm("user"),
	typ: ast.StringTerm("type"), id: ast.StringTerm("id"), registered: ast.StringTerm("registered"), status: ast.StringTerm("status"),
	groups: ast.StringTerm("groups"), filter: ast.StringTerm("filter"), share: ast.StringTerm("share"),
	method: ast.StringTerm("method"), route: ast.StringTerm("route"), target: ast.StringTerm("target"),
	allow: ast.StringTerm("allow"), onBehalfOf: ast.StringTerm("on_behalf_of"),
}

type items = [][2]*ast.Term

// constant is the part of input that all requests of one Judge share.
type constant struct {
	items items
	bytes int // about; what counts against the bound of an input
	// self is who asks, where that is a device or a gateway: another device that
	// the topic names is one that it acts for.
	self *policy.Principal
}

// newConstant converts the facts, unless they are too large, or their claims,
// metadata or organisation data are no JSON.
func (e *Engine) newConstant(f *policy.Facts) (*constant, policy.Cause, error) {
	left := measureFacts(f, e.inputMax)
	if left < 0 {
		return nil, policy.CauseInputSize, errInputSize(e.inputMax)
	}
	c, err := convertFacts(f)
	if err != nil {
		return nil, policy.CauseError, err
	}
	c.bytes = e.inputMax - left
	return c, policy.CauseNone, nil
}

func convertFacts(f *policy.Facts) (*constant, error) {
	var c constant
	if f == nil {
		return &c, nil
	}
	if f.Principal != nil {
		p, err := principalTerm(f.Principal)
		if err != nil {
			return nil, err
		}
		c.items = append(c.items, [2]*ast.Term{key.principal, p})
		if kind := f.Principal.Kind; kind == policy.KindDevice || kind == policy.KindGateway {
			c.self = f.Principal
		}
	}
	if f.Org != nil {
		o, err := orgTerm(f.Org)
		if err != nil {
			return nil, err
		}
		c.items = append(c.items, [2]*ast.Term{key.org, o})
	}
	if f.Client != nil {
		c.items = append(c.items, [2]*ast.Term{key.client, clientTerm(f.Client)})
	}
	return &c, nil
}

func principalTerm(p *policy.Principal) (*ast.Term, error) {
	b := object{}
	b.text("org", p.Org.String())
	b.text("kind", p.Kind.String())
	b.text("type", string(p.Type))
	b.text("id", string(p.ID))
	b.text("api_key", p.APIKey)
	b.text("app", string(p.App))
	b.put("roles", texts(p.Roles))
	b.put("permissions", texts(p.Permissions))
	b.put("groups", texts(p.Groups))
	b.put("restricted", ast.InternedTerm(p.Restricted))
	b.put("member_of", texts(p.MemberOf))
	b.text("verifier", p.Verifier)
	if p.And != nil {
		b.text("also", p.And.Verifier)
	}
	b.put("registered", ast.InternedTerm(p.Registered))
	if !p.ExpiresAt.IsZero() {
		b.put("expires_at", milliseconds(p.ExpiresAt))
	}
	if err := b.json("claims", p.Claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	if err := b.json("metadata", p.Metadata); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return b.term(), nil
}

func orgTerm(o *policy.Organisation) (*ast.Term, error) {
	b := object{}
	b.text("id", o.ID.String())
	b.text("connection_level", o.ConnectionLevel)
	if o.AddressList != "" {
		b.text("address_list", o.AddressList)
		b.put("address_listed", ast.InternedTerm(o.AddressListed))
	}
	if o.CertificateRegistration {
		b.put("certificate_registration", ast.InternedTerm(true))
	}
	if err := b.json("data", o.Data); err != nil {
		return nil, fmt.Errorf("organisation data: %w", err)
	}
	return b.term(), nil
}

// clientTerm always has id and username: an empty client identifier is one.
func clientTerm(c *policy.Client) *ast.Term {
	b := object{}
	b.put("id", ast.StringTerm(string(c.ID)))
	b.put("username", ast.StringTerm(c.Username))
	b.text("protocol", c.Protocol)
	b.text("listener", c.Listener)
	if c.Address.IsValid() {
		b.text("address", c.Address.Unmap().WithZone("").String())
	}
	if c.TLS != nil {
		tls := object{}
		tls.text("version", c.TLS.Version)
		tls.text("sni", c.TLS.SNI)
		if cert := c.TLS.Cert; cert != nil {
			var o object
			o.text("subject", cert.Subject)
			o.put("san", texts(cert.SAN))
			o.text("sha256", cert.SHA256)
			tls.put("cert", o.term())
		}
		b.put("tls", tls.term())
	}
	return b.term()
}

// input is the question, but for what nobody can read who gets it.
func (c *constant) input(r *policy.Request, reads fields) ast.Value {
	all := make(items, len(c.items), len(c.items)+10)
	copy(all, c.items)
	put := func(k, v *ast.Term) { all = append(all, [2]*ast.Term{k, v}) }

	put(key.action, ast.InternedTerm(r.Action.String()))
	switch r.Action {
	case policy.ActionNone, policy.ActionConnect: // nothing but the facts
	case policy.ActionPublish, policy.ActionReceive:
		if reads&readTopic != 0 {
			put(key.topic, ast.StringTerm(r.Topic.String()))
		}
		if reads&readLevels != 0 {
			put(key.levels, texts(r.Levels))
		}
		put(key.qos, ast.InternedTerm(int(r.QoS)))
		put(key.retain, ast.InternedTerm(r.Retain))
		if reads&readSize != 0 {
			put(key.size, ast.InternedTerm(r.Size))
		}
		put(key.will, ast.InternedTerm(r.Will))
		if reads&readProperties != 0 {
			if p := propertiesTerm(r.Properties); p != nil {
				put(key.properties, p)
			}
		}
		if reads&readDevice != 0 {
			c.putDevice(put, r.Device)
		}
	case policy.ActionSubscribe:
		if reads&readFilter != 0 {
			put(key.filter, ast.StringTerm(r.Filter.String()))
		}
		if reads&readLevels != 0 {
			put(key.levels, texts(r.Levels))
		}
		put(key.qos, ast.InternedTerm(int(r.QoS)))
		if r.Share != "" {
			put(key.share, ast.StringTerm(r.Share))
		}
		if reads&readDevice != 0 {
			c.putDevice(put, r.Device)
		}
	case policy.ActionAdminister:
		put(key.method, ast.StringTerm(r.Method))
		put(key.route, ast.StringTerm(r.Route))
		if reads&readTarget != 0 {
			put(key.target, targetTerm(r.Target))
		}
		if reads&readDevice != 0 && r.Device != nil {
			put(key.device, deviceTerm(r.Device))
		}
	}
	return ast.NewObject(all...)
}

// putDevice puts the device that the topic or filter names, and that the asker
// acts for it where it is a device itself and another one.
func (c *constant) putDevice(put func(k, v *ast.Term), d *policy.Device) {
	if d == nil {
		return
	}
	put(key.device, deviceTerm(d))
	if c.self != nil && (c.self.Type != d.Type || c.self.ID != d.ID) {
		put(key.onBehalfOf, ast.ObjectTerm(
			[2]*ast.Term{key.typ, ast.StringTerm(string(d.Type))},
			[2]*ast.Term{key.id, ast.StringTerm(string(d.ID))},
		))
	}
}

func targetTerm(values map[string]string) *ast.Term {
	target := make(items, 0, len(values))
	for name, value := range values {
		target = append(target, [2]*ast.Term{ast.StringTerm(name), ast.StringTerm(value)})
	}
	return ast.ObjectTerm(target...)
}

// propertiesTerm is nil when the message has none. User properties are an
// object of arrays: a name may repeat, and its values keep their order.
func propertiesTerm(p *policy.Properties) *ast.Term {
	if p == nil {
		return nil
	}
	var all items
	if p.ContentType != "" {
		all = append(all, [2]*ast.Term{key.contentType, ast.StringTerm(p.ContentType)})
	}
	if p.ResponseTopic != "" {
		all = append(all, [2]*ast.Term{key.responseTopic, ast.StringTerm(p.ResponseTopic)})
	}
	if p.MessageExpiry != nil {
		all = append(all, [2]*ast.Term{key.messageExpiry, ast.InternedTerm(uint64(*p.MessageExpiry))})
	}
	if len(p.User) > 0 {
		user := ast.NewObject()
		for _, u := range p.User {
			name, value := ast.StringTerm(u.Key), ast.StringTerm(u.Value)
			values := ast.NewArray(value)
			if old := user.Get(name); old != nil {
				values = old.Value.(*ast.Array).Append(value)
			}
			user.Insert(name, ast.NewTerm(values))
		}
		all = append(all, [2]*ast.Term{key.user, ast.NewTerm(user)})
	}
	if len(all) == 0 {
		return nil
	}
	return ast.ObjectTerm(all...)
}

func deviceTerm(d *policy.Device) *ast.Term {
	all := items{
		{key.typ, ast.StringTerm(string(d.Type))},
		{key.id, ast.StringTerm(string(d.ID))},
		{key.registered, ast.InternedTerm(d.Registered)},
		{key.groups, texts(d.Groups)},
	}
	if d.Status != "" {
		all = append(all, [2]*ast.Term{key.status, ast.StringTerm(d.Status)})
	}
	return ast.ObjectTerm(all...)
}

// object collects fields. What is empty is left out, never null, so that a
// policy's not finds it missing.
type object struct{ items items }

func (o *object) put(name string, v *ast.Term) {
	o.items = append(o.items, [2]*ast.Term{ast.StringTerm(name), v})
}

func (o *object) text(name, s string) {
	if s != "" {
		o.put(name, ast.StringTerm(s))
	}
}

func (o *object) json(name string, m map[string]any) error {
	if len(m) == 0 {
		return nil
	}
	v, err := ast.InterfaceToValue(m)
	if err != nil {
		return err
	}
	o.put(name, ast.NewTerm(v))
	return nil
}

func (o *object) term() *ast.Term { return ast.ObjectTerm(o.items...) }

func texts(list []string) *ast.Term {
	terms := make([]*ast.Term, len(list))
	for i, s := range list {
		terms[i] = ast.StringTerm(s)
	}
	return ast.ArrayTerm(terms...)
}

func milliseconds(t time.Time) *ast.Term { return ast.InternedTerm(t.UnixMilli()) }
