-- The dynamic pages of the Windows-authentication backends, run inside Apache (mod_lua).
-- They tell who arrived and what the request looked like, nothing more.

local function escape_json(text)
  return (text:gsub('[%c"\\\127-\255]', function(char)
    if char == '"' then return '\\"' end
    if char == '\\' then return '\\\\' end
    return string.format('\\u%04x', char:byte())
  end))
end

local function quoted(text)
  return '"' .. escape_json(text or '') .. '"'
end

local function escape_html(text)
  return ((text or ''):gsub('[&<>"\']', {
    ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;', ['"'] = '&quot;', ["'"] = '&#39;',
  }))
end

local function sorted_headers(r)
  local names = {}
  local headers = r:headers_in_table()
  for name in pairs(headers) do names[#names + 1] = name end
  table.sort(names, function(a, b) return a:lower() < b:lower() end)
  return names, headers
end

local function sha256(body)
  local file = os.tmpname()
  local out = assert(io.open(file, 'wb'))
  out:write(body)
  out:close()
  local pipe = assert(io.popen('sha256sum < ' .. file))
  local sum = pipe:read('*l'):match('^%x+')
  pipe:close()
  os.remove(file)
  return sum
end

local empty_sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

-- /echo: the request as JSON
local function echo(r)
  local body = ''
  if r.method ~= 'GET' and r.method ~= 'HEAD' then
    body = r:requestbody() or ''
  end
  local names, headers = sorted_headers(r)
  local lines = {}
  for _, name in ipairs(names) do
    lines[#lines + 1] = quoted(name:lower()) .. ':' .. quoted(headers[name])
  end
  local sum = #body == 0 and empty_sha256 or sha256(body)
  r.content_type = 'application/json'
  r:write('{"remote_user":' .. (r.user and quoted(r.user) or 'null')
    .. ',"method":' .. quoted(r.method)
    .. ',"path":' .. quoted(r.uri)
    .. ',"query":' .. quoted(r.args)
    .. ',"target":' .. quoted(r.unparsed_uri)
    .. ',"protocol":' .. quoted(r.protocol)
    .. ',"body_length":' .. #body
    .. ',"body_sha256":"' .. sum .. '"'
    .. ',"headers":{' .. table.concat(lines, ',') .. '}}\n')
end

-- /: the same for people
local function home(r)
  local names, headers = sorted_headers(r)
  local rows = {}
  for _, name in ipairs(names) do
    rows[#rows + 1] = '<tr><th>' .. escape_html(name) .. '</th><td><code>'
      .. escape_html(headers[name]:sub(1, 120)) .. '</code></td></tr>'
  end
  local title = escape_html(r.server_name:match('^[^.]+'))
  r.content_type = 'text/html; charset=utf-8'
  r:write('<!doctype html><html lang="en"><meta charset="utf-8">'
    .. '<meta name="viewport" content="width=device-width, initial-scale=1">'
    .. '<title>' .. title .. '</title><style>body{font:16px/1.5 sans-serif;margin:2rem auto;'
    .. 'max-width:56rem;padding:0 1rem}th{text-align:left;vertical-align:top;padding-right:1rem}'
    .. 'code{overflow-wrap:anywhere}</style>'
    .. '<h1>' .. title .. '</h1><p>You are <strong id="who">' .. escape_html(r.user or 'nobody')
    .. '</strong>.</p><p>This server checked a Kerberos ticket with its own keytab. '
    .. 'The request it saw:</p><table>' .. table.concat(rows) .. '</table></html>\n')
end

-- /redirect?to=URL, or to our own /landed under the backend's own address
local function redirect(r)
  local wanted = r:parseargs()['to']
  local own = (r.is_https and 'https://' or 'http://') .. (r.headers_in['Host'] or r.server_name)
  r.headers_out['Location'] = wanted or (own .. '/landed')
  r.status = 302
end

-- /cookie: what an old application sets (two cookies, by apache.conf: a Lua table holds one)
local function cookie(r)
  r.content_type = 'text/plain'
  r:write('cookies set\n')
end

-- /status?code=503
local function status(r)
  r.status = tonumber(r:parseargs()['code']) or 500
  r.content_type = 'text/plain'
  r:write('as asked\n')
end

-- /slow?ms=500: half of the answer now, half later
local function slow(r)
  local wait = math.min(tonumber(r:parseargs()['ms']) or 500, 60000)
  r.content_type = 'text/plain'
  r:write('first\n')
  r:flush()
  os.execute(string.format('sleep %.3f', wait / 1000))
  r:write('second\n')
end

local pages = {
  ['/'] = home, ['/echo'] = echo, ['/redirect'] = redirect,
  ['/cookie'] = cookie, ['/status'] = status, ['/slow'] = slow,
}

function handle(r)
  local page = pages[r.uri]
  if not page and r.uri:sub(1, 6) == '/echo/' then page = echo end
  if not page then return apache2.DECLINED end
  page(r)
  return apache2.OK
end
