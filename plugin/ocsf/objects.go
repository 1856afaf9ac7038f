package ocsf

// User is a person, a service or a machine that acts. It needs an account, a name or a uid.
type User struct {
	Name        string        `json:"name,omitempty"`
	UID         string        `json:"uid,omitempty"`
	UIDAlt      string        `json:"uid_alt,omitempty"`
	TypeID      *int          `json:"type_id,omitempty"`
	Type        string        `json:"type,omitempty"`
	DisplayName string        `json:"display_name,omitempty"`
	Domain      string        `json:"domain,omitempty"`
	EmailAddr   string        `json:"email_addr,omitempty"`
	Account     *Account      `json:"account,omitempty"`
	Org         *Organization `json:"org,omitempty"`
}

// Account is an account of a user or of a cloud. It needs a name or a uid.
type Account struct {
	Name   string `json:"name,omitempty"`
	UID    string `json:"uid,omitempty"`
	TypeID *int   `json:"type_id,omitempty"`
	Type   string `json:"type,omitempty"`
}

// Organization needs a name or a uid.
type Organization struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// Group needs a name or a uid.
type Group struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
	Type string `json:"type,omitempty"`
}

// Actor is who did it.
type Actor struct {
	AppName string   `json:"app_name,omitempty"`
	AppUID  string   `json:"app_uid,omitempty"`
	Session *Session `json:"session,omitempty"`
	User    *User    `json:"user,omitempty"`
}

// Session is a logon session.
type Session struct {
	UID         string `json:"uid,omitempty"`
	CreatedTime *int64 `json:"created_time,omitempty"`
}

// Device is a computer. It needs one of ip, uid, name, hostname and instance_uid.
type Device struct {
	UID               string             `json:"uid,omitempty"`
	UIDAlt            string             `json:"uid_alt,omitempty"`
	TypeID            int                `json:"type_id"`
	Type              string             `json:"type,omitempty"`
	Name              string             `json:"name,omitempty"`
	Hostname          string             `json:"hostname,omitempty"`
	Domain            string             `json:"domain,omitempty"`
	IP                string             `json:"ip,omitempty"`
	MAC               string             `json:"mac,omitempty"`
	InstanceUID       string             `json:"instance_uid,omitempty"`
	NetworkInterfaces []NetworkInterface `json:"network_interfaces,omitempty"`
	OS                *OS                `json:"os,omitempty"`
	Groups            []Group            `json:"groups,omitempty"`
	Model             string             `json:"model,omitempty"`
	VendorName        string             `json:"vendor_name,omitempty"`
	RiskLevelID       *int               `json:"risk_level_id,omitempty"`
	RiskLevel         string             `json:"risk_level,omitempty"`
	FirstSeenTime     *int64             `json:"first_seen_time,omitempty"`
	IsManaged         *bool              `json:"is_managed,omitempty"`
}

// NetworkInterface needs an ip or a mac.
type NetworkInterface struct {
	IP  string `json:"ip,omitempty"`
	MAC string `json:"mac,omitempty"`
}

// OS is an operating system. Name is required.
type OS struct {
	Name    string `json:"name"`
	TypeID  int    `json:"type_id"`
	Type    string `json:"type,omitempty"`
	Version string `json:"version,omitempty"`
	Build   string `json:"build,omitempty"`
}

// Endpoint is one end of a connection. It needs one of ip, uid, name and hostname.
type Endpoint struct {
	IP       string    `json:"ip,omitempty"`
	Port     *int      `json:"port,omitempty"`
	MAC      string    `json:"mac,omitempty"`
	Hostname string    `json:"hostname,omitempty"`
	Name     string    `json:"name,omitempty"`
	UID      string    `json:"uid,omitempty"`
	Location *Location `json:"location,omitempty"`
}

// Location is a place on earth. It needs a city, a country or a region.
type Location struct {
	City    string   `json:"city,omitempty"`
	Region  string   `json:"region,omitempty"`
	Country string   `json:"country,omitempty"`
	Lat     *float64 `json:"lat,omitempty"`
	Long    *float64 `json:"long,omitempty"`
}

// ConnectionInfo describes a connection.
type ConnectionInfo struct {
	DirectionID  int    `json:"direction_id"`
	Direction    string `json:"direction,omitempty"`
	ProtocolName string `json:"protocol_name,omitempty"`
	ProtocolNum  *int   `json:"protocol_num,omitempty"`
}

// Process needs a pid or a uid.
type Process struct {
	PID           *int64   `json:"pid,omitempty"`
	UID           string   `json:"uid,omitempty"`
	Name          string   `json:"name,omitempty"`
	CmdLine       string   `json:"cmd_line,omitempty"`
	CreatedTime   *int64   `json:"created_time,omitempty"`
	File          *File    `json:"file,omitempty"`
	User          *User    `json:"user,omitempty"`
	ParentProcess *Process `json:"parent_process,omitempty"`
}

// File needs a name.
type File struct {
	Name         string        `json:"name"`
	TypeID       int           `json:"type_id"`
	Type         string        `json:"type,omitempty"`
	Path         string        `json:"path,omitempty"`
	ParentFolder string        `json:"parent_folder,omitempty"`
	URI          string        `json:"uri,omitempty"`
	Size         *int64        `json:"size,omitempty"`
	CompanyName  string        `json:"company_name,omitempty"`
	Hashes       []Fingerprint `json:"hashes,omitempty"`
}

// Fingerprint is a hash.
type Fingerprint struct {
	AlgorithmID int    `json:"algorithm_id"`
	Algorithm   string `json:"algorithm,omitempty"`
	Value       string `json:"value"`
}

// Algorithms of fingerprints.
const (
	AlgorithmMD5    = 1
	AlgorithmSHA1   = 2
	AlgorithmSHA256 = 3
	AlgorithmSHA512 = 4
	AlgorithmOther  = 99
)

// URL is a URL and its parts. It needs the whole or a path.
type URL struct {
	URLString   string `json:"url_string,omitempty"`
	Scheme      string `json:"scheme,omitempty"`
	Hostname    string `json:"hostname,omitempty"`
	Port        *int   `json:"port,omitempty"`
	Path        string `json:"path,omitempty"`
	QueryString string `json:"query_string,omitempty"`
}

// Email is a message. It needs a from or a to.
type Email struct {
	From           string   `json:"from,omitempty"`
	FromMailbox    string   `json:"from_mailbox,omitempty"`
	ReturnPath     string   `json:"return_path,omitempty"`
	To             []string `json:"to,omitempty"`
	Subject        string   `json:"subject,omitempty"`
	UID            string   `json:"uid,omitempty"`
	MessageUID     string   `json:"message_uid,omitempty"`
	URLs           []URL    `json:"urls,omitempty"`
	XOriginatingIP []string `json:"x_originating_ip,omitempty"`
}

// DNSQuery is a question to a name server.
type DNSQuery struct {
	Hostname string `json:"hostname"`
}

// HTTPRequest is what a client sent.
type HTTPRequest struct {
	UserAgent string `json:"user_agent,omitempty"`
}

// Container needs a uid or a name.
type Container struct {
	UID   string `json:"uid,omitempty"`
	Name  string `json:"name,omitempty"`
	Image *Image `json:"image,omitempty"`
}

// Image is a container image. UID is required.
type Image struct {
	UID string `json:"uid"`
}

// Databucket is a container of a storage service. It needs a name or a uid.
type Databucket struct {
	UID    string `json:"uid,omitempty"`
	Name   string `json:"name,omitempty"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type,omitempty"`
}

// RegKey is a key of the Windows registry. It needs the Windows extension.
type RegKey struct {
	Path string `json:"path"`
}

// RegValue is a value of the Windows registry. It needs the Windows extension.
type RegValue struct {
	Path          string `json:"path"`
	Name          string `json:"name"`
	IsDefault     *bool  `json:"is_default,omitempty"`
	TypeID        *int   `json:"type_id,omitempty"`
	Type          string `json:"type,omitempty"`
	RegStringData string `json:"reg_string_data,omitempty"`
}

// Resource is a thing in a cloud or a directory. It needs a name or a uid. Provider, Region and Zone need ProfileCloud.
type Resource struct {
	UID       string `json:"uid,omitempty"`
	UIDAlt    string `json:"uid_alt,omitempty"`
	Name      string `json:"name,omitempty"`
	Type      string `json:"type,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Provider  string `json:"provider,omitempty"`
	Region    string `json:"region,omitempty"`
	Zone      string `json:"zone,omitempty"`
	Group     *Group `json:"group,omitempty"`
	Owner     *User  `json:"owner,omitempty"`
	RoleID    *int   `json:"role_id,omitempty"`
	Role      string `json:"role,omitempty"`
}

// Roles of resources.
const (
	RoleTarget   = 1
	RoleActor    = 2
	RoleAffected = 3
	RoleRelated  = 4
)
