if type(r)~='table' then return r end
local e=rawget(r,'err')
if type(e)=='string' and string.find(e,' ',1,true) or type(e)~='string' and type(rawget(r,'ok'))=='string' then return r end
local function w(v)
local t=type(v)
if t=='string' then return '$'..#v..'\r\n'..v..'\r\n' end
if t=='number' then return ':'..string.format('%d',v)..'\r\n' end
if t=='boolean' and v then return ':1\r\n' end
if t~='table' then return '$-1\r\n' end
local function f(n,k)
local x=rawget(v,n)
return type(x)==k and x
end
local s=f('err','string')
if s then return '-'..string.gsub(s,'[\r\n]',' ')..'\r\n' end
s=f('ok','string')
if s then return '+'..string.gsub(s,'[\r\n]',' ')..'\r\n' end
s=f('double','number')
if s then return w(string.format('%.17g',s)) end
local p={}
s=f('map','table')
if s then
for k,x in pairs(s) do p[#p+1]=w(k)..w(x) end
return '*'..2*#p..'\r\n'..table.concat(p)
end
s=f('set','table')
if s then
for k in pairs(s) do p[#p+1]=w(k) end
return '*'..#p..'\r\n'..table.concat(p)
end
s=f('big_number','string')
if s then return w(s) end
s=f('verbatim_string','table')
if s and type(s.string)=='string' then return w(s.string) end
while v[#p+1]~=nil do p[#p+1]=w(v[#p+1]) end
return '*'..#p..'\r\n'..table.concat(p)
end
return {w(r)}
